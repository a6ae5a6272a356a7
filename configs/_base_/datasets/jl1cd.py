# JL1-CD, 512×512: {train,test}/{A,B,label}. As in open-cd, the test split stands in for validation.
folders = dict(
    train=dict(
        data_root='data/JL1-CD',
        data_prefix=dict(
            img_path_from='train/A', img_path_to='train/B', seg_map_path='train/label')),
    val=dict(
        data_root='data/JL1-CD',
        data_prefix=dict(
            img_path_from='test/A', img_path_to='test/B', seg_map_path='test/label')),
    test=dict(
        data_root='data/JL1-CD',
        data_prefix=dict(
            img_path_from='test/A', img_path_to='test/B', seg_map_path='test/label')))
