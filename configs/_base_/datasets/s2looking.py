# S2Looking as it is distributed, 1024×1024: {train,val,test}/{Image1,Image2,label}
folders = dict(
    train=dict(
        data_root='data/S2Looking',
        data_prefix=dict(
            img_path_from='train/Image1', img_path_to='train/Image2', seg_map_path='train/label')),
    val=dict(
        data_root='data/S2Looking',
        data_prefix=dict(
            img_path_from='val/Image1', img_path_to='val/Image2', seg_map_path='val/label')),
    test=dict(
        data_root='data/S2Looking',
        data_prefix=dict(
            img_path_from='test/Image1', img_path_to='test/Image2', seg_map_path='test/label')))
