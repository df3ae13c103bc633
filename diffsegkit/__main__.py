"""``python -m diffsegkit``."""

import sys

from diffsegkit.cli.main import main

sys.exit(main())
