"""Ways to spend trials: the default (ucb), and published methods to compare it with."""
