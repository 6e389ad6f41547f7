"""The viewer: an exposure, its mask and its cleaned image on a page in the browser, with corrections by hand.

`seen` says what is seen, `corrections` what is changed and saved, `server` answers the page in `page/`.
"""
