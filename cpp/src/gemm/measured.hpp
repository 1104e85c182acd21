// What was measured on devices that cutplan knows: the lowest layer of the tuning table, which corrects the
// cost model there. Written by `python -m cutplan tune --export cpp/src/gemm/measured.hpp`, on the device.
#pragma once

namespace cutplan::gemm {

inline constexpr char measured_table[] = R"table(cutplan-tuning	1
device	NVIDIA H200	90	13000	0.1.0
gemm m=1 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	68480	100512
gemm m=1 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	66592	100096
gemm m=1 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	68736	99104
gemm m=1 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	66336	99104
gemm m=1 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	127552	196320
gemm m=1 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	125664	183968
gemm m=1 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	127264	194112
gemm m=1 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	124832	193280
gemm m=1 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16.k2	16416	17248
gemm m=1 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	15936	17184
gemm m=1 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	16320	16704
gemm m=1 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	15808	17472
gemm m=1 n=4096 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	16352	16736
gemm m=1 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16.k2	24768	25312
gemm m=1 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	28928	28928
gemm m=1 n=4096 k=4096 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	46656	47136
gemm m=1 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16.k2	24832	25568
gemm m=1 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	24960	27072
gemm m=1 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	24896	25312
gemm m=1 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	24992	27776
gemm m=1 n=4096 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	24768	25312
gemm m=1 n=4096 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16.k2	41856	43520
gemm m=1 n=4096 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	47616	47616
gemm m=1 n=4096 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	75040	77408
gemm m=1 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	24096	24096
gemm m=1 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	23360	23360
gemm m=1 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	24320	24320
gemm m=1 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	23264	23264
gemm m=1 n=8192 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	24736	24736
gemm m=1 n=8192 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16	40864	48736
gemm m=1 n=8192 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	48352	48352
gemm m=1 n=8192 k=4096 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	74112	75648
gemm m=1 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	40672	40672
gemm m=1 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	39008	39008
gemm m=1 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	40768	40768
gemm m=1 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	39808	39808
gemm m=1 n=8192 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	40832	40832
gemm m=1 n=8192 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16	74016	78432
gemm m=1 n=8192 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	78656	78656
gemm m=1 n=8192 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	131968	134528
gemm m=16 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	68448	96384
gemm m=16 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	66528	95968
gemm m=16 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	68448	93280
gemm m=16 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	66592	92864
gemm m=16 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x256x64.s5.pingpong.a16	126560	196704
gemm m=16 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	125568	195616
gemm m=16 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	127808	196224
gemm m=16 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	125280	190976
gemm m=16 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	16576	17344
gemm m=16 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.16x64x64.s10.swap_ab.a16	15968	17728
gemm m=16 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	16704	17440
gemm m=16 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	15968	17824
gemm m=16 n=4096 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	16480	17216
gemm m=16 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16.k2	25280	25856
gemm m=16 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	28736	28736
gemm m=16 n=4096 k=4096 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	45536	45952
gemm m=16 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16.k2	25312	26208
gemm m=16 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.32x64x64.s8.swap_ab.a16.k2	24800	27776
gemm m=16 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	25472	26080
gemm m=16 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.32x64x64.s8.swap_ab.a16.k2	24896	27808
gemm m=16 n=4096 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16.k2	25216	25984
gemm m=16 n=4096 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16.k2	42560	43744
gemm m=16 n=4096 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	47456	47456
gemm m=16 n=4096 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	76992	78080
gemm m=16 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	24384	24384
gemm m=16 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.32x64x64.s8.swap_ab.a16	23520	23584
gemm m=16 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	24544	24544
gemm m=16 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	23296	23296
gemm m=16 n=8192 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.16x64x64.s10.swap_ab.a16	24320	24320
gemm m=16 n=8192 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16	41312	47712
gemm m=16 n=8192 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	47488	47488
gemm m=16 n=8192 k=4096 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	74752	76224
gemm m=16 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.16x64x64.s10.swap_ab.a16	41152	41152
gemm m=16 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.32x64x64.s8.swap_ab.a16	39744	40128
gemm m=16 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	41408	41536
gemm m=16 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.16x64x64.s10.swap_ab.a16	39776	39776
gemm m=16 n=8192 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.32x64x64.s8.swap_ab.a16	41248	41856
gemm m=16 n=8192 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.16x64x32.s10.swap_ab.a16	74720	78496
gemm m=16 n=8192 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.16x32x64.s8.multistage.a16	78816	78816
gemm m=16 n=8192 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.16x32x64.s4.multistage.a16	135968	140576
gemm m=256 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16	98784	112480
gemm m=256 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16	96672	114208
gemm m=256 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16	100992	115040
gemm m=256 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16	99008	115872
gemm m=256 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x256x64.s4.c2x1.cooperative.a16	188704	220864
gemm m=256 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x256x64.s4.c2x1.cooperative.a16	184352	214208
gemm m=256 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x256x64.s4.c2x1.cooperative.a16	189888	225120
gemm m=256 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x256x64.s4.c2x1.cooperative.a16	187808	217344
gemm m=256 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16	31008	37024
gemm m=256 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16	29920	37632
gemm m=256 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16	31136	37088
gemm m=256 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16	31168	38240
gemm m=256 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x128x64.s6.pingpong.a16.k4	46016	48448
gemm m=256 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x128x64.s6.pingpong.a16.k4	47424	48992
gemm m=256 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x128x64.s6.pingpong.a16.k4	46336	48928
gemm m=256 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x128x64.s6.pingpong.a16.k4	46272	49504
gemm m=256 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x128x64.s6.pingpong.a16	39584	39584
gemm m=256 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x128x64.s6.pingpong.a16	40960	40960
gemm m=256 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x128x64.s6.pingpong.a16	40224	40224
gemm m=256 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x128x64.s6.pingpong.a16	41440	41440
gemm m=256 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.128x128x64.s6.pingpong.a16	64352	64352
gemm m=256 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.128x128x64.s6.pingpong.a16	65312	65312
gemm m=256 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.128x128x64.s6.pingpong.a16	65088	65088
gemm m=256 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.128x128x64.s6.pingpong.a16	64864	64864
gemm m=4096 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.128x256x32.s4.c2x1.cooperative.a16	336064	336064
gemm m=4096 n=4096 k=4096 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.128x128x32.s3.multistage.a16	2380032	2380032
gemm m=64 n=14336 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr gate=interleaved alignment=16 sm_count=132 activation=silu	gemm.sm90.bf16.rcr.64x64x64.s3.swap_ab.a16.gate_separate	72832	90400
gemm m=64 n=14336 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr gate=separate alignment=16 sm_count=132 activation=silu	gemm.sm90.bf16.rcr.64x64x64.s3.swap_ab.a16.gate_separate	73312	92000
gemm m=64 n=14336 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr gate=interleaved alignment=16 sm_count=132 activation=silu	gemm.sm90.f16.rcr.64x64x64.s3.swap_ab.a16.gate_separate	73312	88000
gemm m=64 n=14336 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr gate=separate alignment=16 sm_count=132 activation=silu	gemm.sm90.f16.rcr.64x64x64.s3.swap_ab.a16.gate_separate	73536	91456
gemm m=64 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x256x64.s5.pingpong.a16	68960	89696
gemm m=64 n=28672 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x256x64.s5.pingpong.a16	67872	83424
gemm m=64 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16	69632	89120
gemm m=64 n=28672 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x256x64.s5.pingpong.a16	67872	87456
gemm m=64 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x256x64.s5.pingpong.a16	128320	169472
gemm m=64 n=28672 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x256x64.s5.pingpong.a16	126272	170208
gemm m=64 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x256x64.s5.pingpong.a16	128800	174432
gemm m=64 n=28672 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x256x64.s5.pingpong.a16	126016	165152
gemm m=64 n=28672 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x256x64.s5.pingpong.a16	129088	172256
gemm m=64 n=28672 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32	gemm.sm90.f32.tf32.rcr.64x256x32.s5.pingpong.a16	242560	324224
gemm m=64 n=28672 k=8192 batch=1 a=float32 b=float32 d=float32 layout=rcr alignment=16 sm_count=132 math=tf32x3	gemm.sm80.f32.tf32x3.rcr.64x64x32.s4.multistage.a16.k2	587648	598944
gemm m=64 n=28672 k=8192 batch=1 a=float64 b=float64 d=float64 layout=rcr alignment=16 sm_count=132	gemm.sm90.f64.rcr.64x64x16.s6.multistage.a16.k4	623648	623648
gemm m=64 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16.k2	18464	26080
gemm m=64 n=4096 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16.k2	18784	27872
gemm m=64 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	18432	26048
gemm m=64 n=4096 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16.k2	18336	26432
gemm m=64 n=4096 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	18592	26528
gemm m=64 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16.k3	28064	36992
gemm m=64 n=4096 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16.k3	28320	38688
gemm m=64 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k3	27744	36992
gemm m=64 n=4096 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16.k3	28160	38624
gemm m=64 n=4096 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k3	27616	37376
gemm m=64 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16.k2	26400	26400
gemm m=64 n=8192 k=4096 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16.k2	26848	26848
gemm m=64 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	26432	26432
gemm m=64 n=8192 k=4096 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16.k2	26688	26688
gemm m=64 n=8192 k=4096 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	26368	26368
gemm m=64 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rcr alignment=16 sm_count=132	gemm.sm90.bf16.rcr.64x64x64.s5.swap_ab.a16.k2	44192	44192
gemm m=64 n=8192 k=8192 batch=1 a=bfloat16 b=bfloat16 d=bfloat16 layout=rrr alignment=16 sm_count=132	gemm.sm90.bf16.rrr.64x64x64.s5.swap_ab.a16.k2	43904	43904
gemm m=64 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	43648	43648
gemm m=64 n=8192 k=8192 batch=1 a=float16 b=float16 d=float16 layout=rrr alignment=16 sm_count=132	gemm.sm90.f16.rrr.64x64x64.s5.swap_ab.a16.k2	44160	44160
gemm m=64 n=8192 k=8192 batch=1 a=float16 b=float16 d=float32 layout=rcr alignment=16 sm_count=132	gemm.sm90.f16.rcr.64x64x64.s5.swap_ab.a16.k2	44160	44160
end	142
)table";

}  // namespace cutplan::gemm
