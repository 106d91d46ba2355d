"""The demo: one photograph, damaged in six ways and restored, against what a user would otherwise pick."""
