"""Run the measurements: `python -m benchmarks [load|burst|cold-start]`, all of them without one."""

from benchmarks.bench import main

main()
