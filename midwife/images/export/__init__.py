"""What an image profile becomes: an offline bundle, an ISO, the tree that is netbooted."""
