# IFN with the paper's losses and dropout; the schedule of ifn_256x256_40k_levircd.py
_base_ = ['ifn_256x256_40k_levircd.py', '../_base_/models/paper_head.py']
model = dict(decode_head=_base_.paper_head)
