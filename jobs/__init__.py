"""The command line: `python -m jobs NAME --config FILE --set key=value`."""
