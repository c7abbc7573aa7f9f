"""After an audit: the model taught on what made it fail, and audited again."""
