"""Model health for who looks at it without the app: in the terminal, or as one page."""
