# CLCD as it is distributed, 512×512: {train,val,test}/{time1,time2,label}
folders = dict(
    train=dict(
        data_root='data/CLCD',
        data_prefix=dict(
            img_path_from='train/time1', img_path_to='train/time2', seg_map_path='train/label')),
    val=dict(
        data_root='data/CLCD',
        data_prefix=dict(
            img_path_from='val/time1', img_path_to='val/time2', seg_map_path='val/label')),
    test=dict(
        data_root='data/CLCD',
        data_prefix=dict(
            img_path_from='test/time1', img_path_to='test/time2', seg_map_path='test/label')))
