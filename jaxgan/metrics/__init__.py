"""Distances between two sets of features, and the like: features [N, D] in, numbers out.

The cores know nothing of pictures or networks; what the features are is told by the name that a result is logged under.
"""
