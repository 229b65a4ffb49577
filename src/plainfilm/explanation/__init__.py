"""What a model looks at, and whether the picture of it can be believed.

`saliency` draws heat maps, `sanity` tests them against networks that have learned nothing, `feature_maps` shows what
single layers see, `marks` paints printed marks out and in, and `page` puts all of it into one offline page.
"""
