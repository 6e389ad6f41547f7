"""The published networks, as the literature and the upstream files have them."""

# name and version -> hash of the upstream file, unit, scale, normalisation, threshold: the table of published networks,
# written out here so that a card cannot be its own judge
PUBLISHED = {
    "mask/ACS-WFC-F606W-2-32@1.0": (
        "11d6715151c791152714c43ae4341e733cf6d09569eff7bbc7c0985736e0a96a", "electron", 100, "scale", 0.5),
    "mask/ACS-WFC-F606W-2-32@2.0": (
        "704dfcf91c3b4d7984b113236017c8b1ef6edbeca2fc54a7739a082c2f1e19f3", "electron", 1, "scale", 0.5),
    "mask/ACS-WFC-F606W-2-4@1.0": (
        "91fd387be08dfb2692fc3433566455812c42fae53fa6ec4ad19c384b68bce775", "electron", 100, "scale", 0.5),
    "mask/ACS-WFC-F435W-2-32@1.0": (
        "27d351ce310491f70964bd8a30a5579322e064edd63f5726a68d7f4129551d85", "electron", 1, "scale", 0.5),
    "mask/ACS-WFC-F814W-2-32@1.0": (
        "fc6bf85042dd9d54cf7f81636ff6921a1ae3d118fb5f4fd7c7ca1b164499d14b", "electron", 1, "scale", 0.5),
    "mask/ACS-WFC-2-32@1.0": (
        "0075cef7a8b72f3ecf449cac3793d3446720a97fc0ba812fb29863a9be1e7ace", "electron", 1, "scale", 0.5),
    "mask/WFC3-UVIS-2-32@1.0": (
        "92ad8d3231a0427c6fa6d9b39501549edc15fd1eb1162e028e2cf1711b2f59cd", "electron", 1, "frame-standardise", 0.15),
    "mask/DECam-2-32@1.0": (
        "686de2afab28d13b2bff3c418ecf017d0b290ca5e8c811ef71f673ce12230815", "adu", 1, "scale", 0.5),
    "inpaint/ACS-WFC-F606W-2-32@1.0": (
        "2a754380bfe158a1cfeee12f908f96a2bd5b59cbb7b830a4d06dad930d906111", "electron", 100, "scale", None),
    "inpaint/ACS-WFC-F606W-3-32@1.0": (
        "5b4faf2e239185c2d5d4235688ce61a2b9e4e5f47bbcf96c8a687b5a0c1e6c42", "electron", 100, "scale", None),
}  # fmt: skip
