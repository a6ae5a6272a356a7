# A data set that `python -m ifn_plugin.tools.pack_dataset data/LEVIR-CD data/LEVIR-CD-packed` wrote. The augmentation
# draws the samples of the 40k recipe, warped crop by crop; what makes a batch of them is each stack's own.
packed = dict(data_root='data/LEVIR-CD-packed', img_suffix='.npy', seg_map_suffix='.npy')
augmentation = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(type='ifn_plugin.RandomRotateCropFlip', crop_size=(256, 256), rotate_prob=0.5, degree=180, cat_max_ratio=0.75),
]
