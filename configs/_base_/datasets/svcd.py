# SVCD (CDD) as it is distributed, 256×256: {train,val,test}/{A,B,OUT}. The labels are JPEG, so they have a threshold.
folders = dict(
    train=dict(
        data_root='data/SVCD',
        data_prefix=dict(
            img_path_from='train/A', img_path_to='train/B', seg_map_path='train/OUT')),
    val=dict(
        data_root='data/SVCD',
        data_prefix=dict(
            img_path_from='val/A', img_path_to='val/B', seg_map_path='val/OUT')),
    test=dict(
        data_root='data/SVCD',
        data_prefix=dict(
            img_path_from='test/A', img_path_to='test/B', seg_map_path='test/OUT')))
