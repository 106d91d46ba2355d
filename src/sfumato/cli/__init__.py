"""The command line: thin commands, each in the file of its name, which import what they need when they run."""
