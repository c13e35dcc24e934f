"""The miniature of Objaverse: random objects, coloured and rendered from random cameras (extra `nvs`)."""
