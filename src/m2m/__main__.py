"""`python -m m2m`: the same as the command `m2m`."""

import sys

from m2m.cli.main import main

sys.exit(main())
