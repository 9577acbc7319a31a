"""The page that shows what was done and found: figures, and the template that holds them."""
