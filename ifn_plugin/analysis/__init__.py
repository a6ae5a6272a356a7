"""Analysis of data sets, runs and models, for the commands ``benchmark``, ``compare``, ``report``, ``check_dataset``."""
