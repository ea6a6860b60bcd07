"""Order execution engine: what the functions share.

Here lives what every part may import (clock, errors, measures, settings) and what composes the
parts (bootstrap, telemetry); all else lives in the folder of its layer.
"""
