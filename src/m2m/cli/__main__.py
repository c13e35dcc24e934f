"""`python -m m2m.cli`: the command line as a module, which `accelerate launch -m` and `torchrun -m` want."""

import sys

from m2m.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
