"""An experiment on disk: its paths, configuration, weights and figures."""
