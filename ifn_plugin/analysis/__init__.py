"""Analysis of data sets, runs and models: what the commands of the same names do."""
