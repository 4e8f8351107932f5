"""Named pieces of background work, and the loop that runs them on any number of machines."""
