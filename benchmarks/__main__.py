"""Run the measurements: `python -m benchmarks [load|burst|cold-start|compare]`.

Without a name: load, burst and cold start.
"""

from benchmarks.bench import main

main()
