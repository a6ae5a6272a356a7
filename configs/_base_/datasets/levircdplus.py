# LEVIR-CD+ as it is distributed, 1024×1024: {train,test}/{A,B,label}. There is no validation split: the test split
# stands in, so the best checkpoint is chosen by what is tested. Split train if that matters.
folders = dict(
    train=dict(
        data_root='data/LEVIR-CD+',
        data_prefix=dict(
            img_path_from='train/A', img_path_to='train/B', seg_map_path='train/label')),
    val=dict(
        data_root='data/LEVIR-CD+',
        data_prefix=dict(
            img_path_from='test/A', img_path_to='test/B', seg_map_path='test/label')),
    test=dict(
        data_root='data/LEVIR-CD+',
        data_prefix=dict(
            img_path_from='test/A', img_path_to='test/B', seg_map_path='test/label')))
