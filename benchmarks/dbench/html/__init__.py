"""HTML and SVG of our own making: pages and line charts."""
