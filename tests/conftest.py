"""What every test stands on."""

import signal

# A shell that starts the tests in the background has interrupts ignored, and every process below inherits that. The
# tests of Ctrl-C are about plainfilm, not about that shell.
signal.signal(signal.SIGINT, signal.default_int_handler)
