# The samples of ifn_256x256_40k_levircd.py, read from a packed data set and warped crop by crop:
# python -m ifn_plugin.tools.pack_dataset data/LEVIR-CD data/LEVIR-CD-packed
_base_ = 'ifn_256x256_40k_levircd.py'
data_root = 'data/LEVIR-CD-packed'
train_pipeline = [
    dict(type='ifn_plugin.LoadPair'),
    dict(type='ifn_plugin.LoadChangeLabel'),
    dict(type='ifn_plugin.RandomRotateCropFlip', crop_size=(256, 256), rotate_prob=0.5, degree=180, cat_max_ratio=0.75),
    dict(
        type='ifn_plugin.PairPhotoMetricDistortion',
        brightness_delta=10,
        contrast_range=(0.8, 1.2),
        saturation_range=(0.8, 1.2),
        hue_delta=10),
    dict(type='MultiImgPackSegInputs'),
]
packed = dict(data_root=data_root, img_suffix='.npy', seg_map_suffix='.npy')
train_dataloader = dict(dataset=dict(**packed, pipeline=train_pipeline))
val_dataloader = dict(dataset=packed)
test_dataloader = dict(dataset=packed)
