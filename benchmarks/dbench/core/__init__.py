"""The parts that all measurements share: times, fresh processes, the machine, and results of rows."""
