"""Images without a model in between: components, embeddings, clusters, and what they follow."""
