"""The web page without a browser: uploads, sampling, archives, and what the page is made of."""
