# DSIFN-CD as it is distributed, 512×512: {train,val,test}/{t1,t2,mask}
folders = dict(
    train=dict(
        data_root='data/DSIFN',
        data_prefix=dict(
            img_path_from='train/t1', img_path_to='train/t2', seg_map_path='train/mask')),
    val=dict(
        data_root='data/DSIFN',
        data_prefix=dict(
            img_path_from='val/t1', img_path_to='val/t2', seg_map_path='val/mask')),
    test=dict(
        data_root='data/DSIFN',
        data_prefix=dict(
            img_path_from='test/t1', img_path_to='test/t2', seg_map_path='test/mask')))
