"""Kubernetes: who we are to a cluster, its API (list and watch), and port-forwards of our own."""
