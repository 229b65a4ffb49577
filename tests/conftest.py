"""What every test stands on."""

import os
import signal
import tempfile

from hypothesis import settings

# What is kept between commands is kept away from the user's own, and from another run of the tests.
if "PLAINFILM_CACHE" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="plainfilm-cache-", ignore_cleanup_errors=True)
    os.environ["PLAINFILM_CACHE"] = _cache.name

# A shell that starts the tests in the background has interrupts ignored, and every process below inherits that. The
# tests of Ctrl-C are about plainfilm, not about that shell.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says how busy the machine is.
settings.register_profile("plainfilm", deadline=None)
settings.load_profile("plainfilm")
