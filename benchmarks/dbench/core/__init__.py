"""What every measurement needs: times, fresh processes, the machine, and what is left as rows of a result."""
