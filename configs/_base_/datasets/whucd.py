# WHU-CD in tiles of 256×256: A, B, label, and list/{train,val,test}.txt with one name a line
folders = dict(
    train=dict(
        data_root='data/WHU-CD-256',
        ann_file='list/train.txt',
        data_prefix=dict(
            img_path_from='A', img_path_to='B', seg_map_path='label')),
    val=dict(
        data_root='data/WHU-CD-256',
        ann_file='list/val.txt',
        data_prefix=dict(
            img_path_from='A', img_path_to='B', seg_map_path='label')),
    test=dict(
        data_root='data/WHU-CD-256',
        ann_file='list/test.txt',
        data_prefix=dict(
            img_path_from='A', img_path_to='B', seg_map_path='label')))
