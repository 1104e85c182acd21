// What was measured on devices that cutplan knows: the lowest layer of the tuning table, which corrects the
// cost model there. Written by `python -m cutplan tune --export cpp/src/gemm/measured.hpp`, on the device.
#pragma once

namespace cutplan::gemm {

inline constexpr char measured_table[] = R"table(cutplan-tuning	1
device	NVIDIA H200	90	13000	0.1.0
gemm m=1 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	68352	70048
gemm m=1 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	67104	68736
gemm m=1 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	67712	70688
gemm m=1 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	66688	68768
gemm m=1 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	127296	127296
gemm m=1 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	125760	125760
gemm m=1 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x256x64.s5.pingpong.a16	127488	127584
gemm m=1 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	124832	124832
gemm m=1 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16.k3	16064	16384
gemm m=1 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	15840	16384
gemm m=1 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k3	16224	16384
gemm m=1 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	15968	16448
gemm m=1 n=4096 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	16352	16736
gemm m=1 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16.k2	24768	25312
gemm m=1 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	28928	28928
gemm m=1 n=4096 k=4096 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	46656	47136
gemm m=1 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16.k3	24736	25024
gemm m=1 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16.k2	24800	24800
gemm m=1 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	24928	24928
gemm m=1 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16.k2	24864	24864
gemm m=1 n=4096 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	24768	25312
gemm m=1 n=4096 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16.k2	41856	43520
gemm m=1 n=4096 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	47616	47616
gemm m=1 n=4096 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	75040	77408
gemm m=1 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	24800	24800
gemm m=1 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	23360	23360
gemm m=1 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	24352	24352
gemm m=1 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	23872	23872
gemm m=1 n=8192 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	24736	24736
gemm m=1 n=8192 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16	40864	48736
gemm m=1 n=8192 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	48352	48352
gemm m=1 n=8192 k=4096 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	74112	75648
gemm m=1 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	41728	41728
gemm m=1 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	39424	39424
gemm m=1 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	41088	41088
gemm m=1 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	40160	40160
gemm m=1 n=8192 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	40832	40832
gemm m=1 n=8192 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16	74016	78432
gemm m=1 n=8192 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	78656	78656
gemm m=1 n=8192 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	131968	134528
gemm m=1024 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16	304640	310496
gemm m=1024 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16	305056	315776
gemm m=1024 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16	316128	321952
gemm m=1024 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16	316928	323328
gemm m=1024 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16	595776	599392
gemm m=1024 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16	597824	606912
gemm m=1024 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16	624896	635040
gemm m=1024 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16	626304	633792
gemm m=1024 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.cooperative.a16	51776	51936
gemm m=1024 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16	52032	52032
gemm m=1024 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x128x64.s6.pingpong.a16	53536	53792
gemm m=1024 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16	53344	53344
gemm m=1024 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.cooperative.a16	91616	93856
gemm m=1024 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.cooperative.a16	91808	93888
gemm m=1024 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.cooperative.a16	95296	96832
gemm m=1024 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.cooperative.a16	95456	96640
gemm m=1024 n=5120 k=5120 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x128x64.s6.pingpong.a16.stream_k	85856	85856
gemm m=1024 n=5120 k=5120 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x128x64.s6.pingpong.a16.stream_k	83744	83744
gemm m=1024 n=5120 k=5120 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x128x64.s6.pingpong.a16.stream_k	83488	83488
gemm m=1024 n=5120 k=5120 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x128x64.s6.pingpong.a16.stream_k	84672	84672
gemm m=1024 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.cooperative.a16	95488	97504
gemm m=1024 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.cooperative.a16	95840	97792
gemm m=1024 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.cooperative.a16	98432	100128
gemm m=1024 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.cooperative.a16	98656	100832
gemm m=1024 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.cooperative.a16	176416	178304
gemm m=1024 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.cooperative.a16	180704	185472
gemm m=1024 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.cooperative.a16	188896	193632
gemm m=1024 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.cooperative.a16	190688	193664
gemm m=1536 n=3328 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	127712	141856
gemm m=1536 n=3328 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x128x64.s6.pingpong.a16.stream_k	127840	127840
gemm m=1536 n=3328 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	131744	137152
gemm m=1536 n=3328 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x128x64.s6.pingpong.a16.stream_k	131648	131648
gemm m=16 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	68224	68224
gemm m=16 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	66048	66048
gemm m=16 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	68288	68288
gemm m=16 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.32x64x64.s8.swap_ab.a16	66048	66496
gemm m=16 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	125984	125984
gemm m=16 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	125280	125280
gemm m=16 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	126752	126752
gemm m=16 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	125280	125280
gemm m=16 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	16672	16736
gemm m=16 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.32x64x64.s8.swap_ab.a16.k2	16256	16736
gemm m=16 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	16640	16640
gemm m=16 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	16032	16640
gemm m=16 n=4096 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	16480	17216
gemm m=16 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16.k2	25280	25856
gemm m=16 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	28736	28736
gemm m=16 n=4096 k=4096 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	45536	45952
gemm m=16 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16.k2	25248	25248
gemm m=16 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.32x64x64.s8.swap_ab.a16.k2	24864	24960
gemm m=16 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	25312	25312
gemm m=16 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.32x64x64.s8.swap_ab.a16.k2	24736	24832
gemm m=16 n=4096 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	25216	25984
gemm m=16 n=4096 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16.k2	42560	43744
gemm m=16 n=4096 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	47456	47456
gemm m=16 n=4096 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	76992	78080
gemm m=16 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	24256	24256
gemm m=16 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	23328	23328
gemm m=16 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	24288	24288
gemm m=16 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	23296	23296
gemm m=16 n=8192 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	24320	24320
gemm m=16 n=8192 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16	41312	47712
gemm m=16 n=8192 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	47488	47488
gemm m=16 n=8192 k=4096 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	74752	76224
gemm m=16 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.32x64x64.s8.swap_ab.a16	41440	41792
gemm m=16 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	39616	39616
gemm m=16 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	41312	41632
gemm m=16 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.32x64x64.s8.swap_ab.a16	39808	40544
gemm m=16 n=8192 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	41248	41856
gemm m=16 n=8192 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16	74720	78496
gemm m=16 n=8192 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	78816	78816
gemm m=16 n=8192 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	135968	140576
gemm m=2048 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	1179168	1179168
gemm m=2048 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	1191328	1191328
gemm m=2048 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	1251008	1251008
gemm m=2048 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	1246784	1246784
gemm m=2048 n=5120 k=5120 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x128x64.s6.pingpong.a16	146912	146912
gemm m=2048 n=5120 k=5120 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x128x64.s6.pingpong.a16	146912	146912
gemm m=2048 n=5120 k=5120 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x128x64.s6.pingpong.a16	151264	151264
gemm m=2048 n=5120 k=5120 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x128x64.s6.pingpong.a16	152128	152128
gemm m=256 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16	95296	97664
gemm m=256 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16	93664	96352
gemm m=256 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16	96896	100096
gemm m=256 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16	95168	97792
gemm m=256 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	177120	177120
gemm m=256 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	174560	174560
gemm m=256 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	182048	182048
gemm m=256 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	183776	183776
gemm m=256 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x256x64.s5.pingpong.a16.k2	31008	33600
gemm m=256 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16	30048	34144
gemm m=256 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16	30592	33536
gemm m=256 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16	30048	33952
gemm m=256 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	42112	45536
gemm m=256 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	41248	45536
gemm m=256 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	42816	45504
gemm m=256 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	42496	45856
gemm m=256 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	39680	40256
gemm m=256 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	37792	41664
gemm m=256 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	39456	40320
gemm m=256 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	39552	42336
gemm m=256 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	57056	57056
gemm m=256 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	55776	55776
gemm m=256 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	58016	58016
gemm m=256 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	56576	56576
gemm m=4096 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.cooperative.a16	178656	184064
gemm m=4096 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16	179360	185664
gemm m=4096 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16	184736	190720
gemm m=4096 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16	185088	190464
gemm m=4096 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.128x256x32.s4.c2x1.cooperative.a16	336064	336064
gemm m=4096 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.128x128x32.s3.multistage.a16	2380032	2380032
gemm m=64 n=14336 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr gate=interleaved alignment=16 sm_count=132 activation=silu	gemm.sm90.bf16.rcr.64x64x64.s3.swap_ab.a16.gate_separate	73664	73664
gemm m=64 n=14336 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr gate=separate alignment=16 sm_count=132 activation=silu	gemm.sm90.bf16.rcr.64x64x64.s3.swap_ab.a16.gate_separate	73472	73472
gemm m=64 n=14336 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr gate=interleaved alignment=16 sm_count=132 activation=silu	gemm.sm90.f16.rcr.64x64x64.s3.swap_ab.a16.gate_separate	73984	73984
gemm m=64 n=14336 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr gate=separate alignment=16 sm_count=132 activation=silu	gemm.sm90.f16.rcr.64x64x64.s3.swap_ab.a16.gate_separate	73824	73824
gemm m=64 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16	69440	70400
gemm m=64 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16	67840	67904
gemm m=64 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16	69760	70592
gemm m=64 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16	67008	68672
gemm m=64 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x256x64.s5.pingpong.a16	129056	129056
gemm m=64 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x256x64.s5.pingpong.a16	126752	126752
gemm m=64 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x256x64.s5.pingpong.a16	128608	128608
gemm m=64 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x256x64.s5.pingpong.a16	127840	127840
gemm m=64 n=28672 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x256x64.s5.pingpong.a16	129088	172256
gemm m=64 n=28672 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.64x256x32.s5.pingpong.a16	242560	324224
gemm m=64 n=28672 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.64x64x32.s4.multistage.a16.k2	587648	598944
gemm m=64 n=28672 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.64x64x16.s6.multistage.a16.k4	623648	623648
gemm m=64 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16.k2	18432	27136
gemm m=64 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16.k2	18368	27904
gemm m=64 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	18592	26080
gemm m=64 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16.k2	18304	28160
gemm m=64 n=4096 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	18592	26528
gemm m=64 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16.k3	27936	36960
gemm m=64 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16.k3	28928	37856
gemm m=64 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k3	28192	37088
gemm m=64 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16.k3	28800	37792
gemm m=64 n=4096 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k3	27616	37376
gemm m=64 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16.k2	26624	26624
gemm m=64 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16	26368	26496
gemm m=64 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	26464	26464
gemm m=64 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16	26176	26240
gemm m=64 n=8192 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	26368	26368
gemm m=64 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16.k2	44000	44000
gemm m=64 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16.k2	44704	44704
gemm m=64 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	44864	44864
gemm m=64 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16.k2	44384	44384
gemm m=64 n=8192 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	44160	44160
gemm m=8192 n=8192 k=512 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.cooperative.a16	122560	132864
gemm m=8192 n=8192 k=512 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.cooperative.a16	123552	132512
gemm m=8192 n=8192 k=512 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.cooperative.a16	124448	135008
gemm m=8192 n=8192 k=512 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.cooperative.a16	125440	135712
gemm m=8192 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	1338464	1338464
gemm m=8192 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	1345152	1345152
gemm m=8192 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16.stream_k	1402624	1402624
gemm m=8192 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16.stream_k	1411616	1411616
end	194
)table";

}  // namespace cutplan::gemm
