"""Benchmarks: solvers on worlds whose posterior is known, and on photographs. What `sfumato bench` prints."""
