/*
 * api_device.c: the devices: as many as EMUHIP_DEVICES says, each an MI300X in what it reports, except for its memory
 * (EMUHIP_MEM) and its name. Clocks are the real one's; nothing here runs at them.
 */
#include "emulator/api.h"

#include "emulator/settings.h"

#include <stdio.h>

#define NAME "AMD Instinct MI300X (emulated)"
#define ARCH "gfx942:sramecc+:xnack-"
#define COMPUTE_UNITS 304
#define CLOCK_KHZ 2100000
#define MEMORY_CLOCK_KHZ 1300000
#define TIMER_KHZ 100000
#define BUS_BITS 8192
#define L2_BYTES (4 << 20)
#define LDS_BYTES 65536
#define REGISTERS 65536
#define THREADS_PER_CU 2048
#define BLOCK_MAX 1024
#define GRID_X_MAX 2147483647
#define GRID_YZ_MAX 65536
#define BUS_ID_FIRST 5
#define BUS_ID_STEP 16

static __thread int current;

int
emu_api_device(void)
{
	return current;
}

int
emu_api_devices(void)
{
	return emu_settings.devices < DEVICES_MAX ? emu_settings.devices : DEVICES_MAX;
}

size_t
emu_api_device_bytes(void)
{
	return (size_t)(emu_settings.mem_gib * (double)((size_t)1 << 30));
}

static int
exists(int d)
{
	return d >= 0 && d < emu_api_devices();
}

static int
bus_id(int d)
{
	return BUS_ID_FIRST + d * BUS_ID_STEP;
}

hipError_t
hipInit(unsigned flags)
{
	REQUIRE(flags == 0);
	return emu_api_error(emu_api_devices() > 0 ? hipSuccess : hipErrorNoDevice);
}

hipError_t
hipDriverGetVersion(int *v)
{
	REQUIRE(v != NULL);
	*v = HIP_VERSION;
	return hipSuccess;
}

hipError_t
hipRuntimeGetVersion(int *v)
{
	REQUIRE(v != NULL);
	*v = HIP_VERSION;
	return hipSuccess;
}

hipError_t
hipGetDeviceCount(int *n)
{
	REQUIRE(n != NULL);
	*n = emu_api_devices();
	return emu_api_error(*n > 0 ? hipSuccess : hipErrorNoDevice);
}

hipError_t
hipSetDevice(int device)
{
	if (!exists(device))
		return emu_api_error(hipErrorInvalidDevice);
	current = device;
	return hipSuccess;
}

hipError_t
hipGetDevice(int *device)
{
	REQUIRE(device != NULL);
	*device = current;
	return hipSuccess;
}

hipError_t
hipDeviceGet(hipDevice_t *d, int ordinal)
{
	REQUIRE(d != NULL && exists(ordinal));
	*d = ordinal;
	return hipSuccess;
}

hipError_t
hipDeviceGetName(char *s, int n, hipDevice_t d)
{
	REQUIRE(s != NULL && n > 0 && exists(d));
	snprintf(s, (size_t)n, "%s", NAME);
	return hipSuccess;
}

hipError_t
hipDeviceTotalMem(size_t *bytes, hipDevice_t d)
{
	REQUIRE(bytes != NULL && exists(d));
	*bytes = emu_api_device_bytes();
	return hipSuccess;
}

hipError_t
hipDeviceComputeCapability(int *major, int *minor, hipDevice_t d)
{
	REQUIRE(major != NULL && minor != NULL && exists(d));
	*major = 9;
	*minor = 4;
	return hipSuccess;
}

hipError_t
hipDeviceGetPCIBusId(char *s, int n, int d)
{
	REQUIRE(s != NULL && n > 12 && exists(d));
	snprintf(s, (size_t)n, "0000:%02x:00.0", (unsigned)bus_id(d) & 0xff);
	return hipSuccess;
}

hipError_t
hipDeviceGetByPCIBusId(int *d, const char *s)
{
	unsigned bus;

	REQUIRE(d != NULL && s != NULL && sscanf(s, "%*x:%x", &bus) == 1);
	for (int i = 0; i < emu_api_devices(); i++)
		if (((unsigned)bus_id(i) & 0xff) == bus) {
			*d = i;
			return hipSuccess;
		}
	return emu_api_error(hipErrorInvalidValue);
}

hipError_t
hipDeviceGetUuid(hipUUID *u, hipDevice_t d)
{
	REQUIRE(u != NULL && exists(d));
	memset(u, 0, sizeof *u);
	snprintf(u->bytes, sizeof u->bytes, "GPU-emu%02d", d);
	return hipSuccess;
}

hipError_t
hipDeviceGetAttribute(int *v, hipDeviceAttribute_t a, int d)
{
	static const struct {
		hipDeviceAttribute_t a;
		int v;
	} values[] = {
		{hipDeviceAttributeMultiprocessorCount, COMPUTE_UNITS},
		{hipDeviceAttributePhysicalMultiProcessorCount, COMPUTE_UNITS},
		{hipDeviceAttributeWarpSize, 64},
		{hipDeviceAttributeMaxThreadsPerBlock, BLOCK_MAX},
		{hipDeviceAttributeMaxBlockDimX, BLOCK_MAX},
		{hipDeviceAttributeMaxBlockDimY, BLOCK_MAX},
		{hipDeviceAttributeMaxBlockDimZ, BLOCK_MAX},
		{hipDeviceAttributeMaxGridDimX, GRID_X_MAX},
		{hipDeviceAttributeMaxGridDimY, GRID_YZ_MAX},
		{hipDeviceAttributeMaxGridDimZ, GRID_YZ_MAX},
		{hipDeviceAttributeMaxSharedMemoryPerBlock, LDS_BYTES},
		{hipDeviceAttributeMaxSharedMemoryPerMultiprocessor, LDS_BYTES},
		{hipDeviceAttributeSharedMemPerMultiprocessor, LDS_BYTES},
		{hipDeviceAttributeSharedMemPerBlockOptin, LDS_BYTES},
		{hipDeviceAttributeMaxThreadsPerMultiProcessor, THREADS_PER_CU},
		{hipDeviceAttributeComputeCapabilityMajor, 9},
		{hipDeviceAttributeComputeCapabilityMinor, 4},
		{hipDeviceAttributeClockRate, CLOCK_KHZ},
		{hipDeviceAttributeMemoryClockRate, MEMORY_CLOCK_KHZ},
		{hipDeviceAttributeClockInstructionRate, TIMER_KHZ},
		{hipDeviceAttributeMemoryBusWidth, BUS_BITS},
		{hipDeviceAttributeL2CacheSize, L2_BYTES},
		{hipDeviceAttributeTotalConstantMemory, 2147483647},
		{hipDeviceAttributeMaxPitch, 2147483647},
		{hipDeviceAttributeMaxRegistersPerBlock, REGISTERS},
		{hipDeviceAttributeMaxRegistersPerMultiprocessor, REGISTERS},
		{hipDeviceAttributeTextureAlignment, 256},
		{hipDeviceAttributeCanMapHostMemory, 1},
		{hipDeviceAttributeConcurrentKernels, 1},
		{hipDeviceAttributeUnifiedAddressing, 1},
		{hipDeviceAttributeMemoryPoolsSupported, 1},
		{hipDeviceAttributeEccEnabled, 1},
		{hipDeviceAttributeIsLargeBar, 1},
		{hipDeviceAttributeManagedMemory, 1},
		{hipDeviceAttributeAsyncEngineCount, 1},
		{hipDeviceAttributeStreamPrioritiesSupported, 1},
	};

	REQUIRE(v != NULL && exists(d));
	*v = a == hipDeviceAttributePciBusId ? bus_id(d) : 0;
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		if (values[i].a == a)
			*v = values[i].v;
	return hipSuccess;
}

/* HIP 6's and 7's properties, which their headers call hipDeviceProp_t; 1472 bytes. */
struct prop_r0600 {
	char name[256], uuid[16], luid[8];
	unsigned luidDeviceNodeMask;
	size_t totalGlobalMem, sharedMemPerBlock;
	int regsPerBlock, warpSize;
	size_t memPitch;
	int maxThreadsPerBlock, maxThreadsDim[3], maxGridSize[3], clockRate;
	size_t totalConstMem;
	int major, minor;
	size_t textureAlignment, texturePitchAlignment;
	int deviceOverlap, multiProcessorCount, kernelExecTimeoutEnabled, integrated, canMapHostMemory, computeMode;
	int textures[40];
	size_t surfaceAlignment;
	int concurrentKernels, ECCEnabled, pciBusID, pciDeviceID, pciDomainID, tccDriver, asyncEngineCount;
	int unifiedAddressing, memoryClockRate, memoryBusWidth, l2CacheSize, persistingL2CacheMaxSize;
	int maxThreadsPerMultiProcessor, streamPrioritiesSupported, globalL1CacheSupported, localL1CacheSupported;
	size_t sharedMemPerMultiprocessor;
	int regsPerMultiprocessor, managedMemory, isMultiGpuBoard, multiGpuBoardGroupID, hostNativeAtomicSupported;
	int singleToDoublePrecisionPerfRatio, pageableMemoryAccess, concurrentManagedAccess;
	int computePreemptionSupported, canUseHostPointerForRegisteredMem, cooperativeLaunch;
	int cooperativeMultiDeviceLaunch;
	size_t sharedMemPerBlockOptin;
	int pageableMemoryAccessUsesHostPageTables, directManagedMemAccessFromHost, maxBlocksPerMultiProcessor;
	int accessPolicyMaxWindowSize;
	size_t reservedSharedMemPerBlock;
	int hostRegisterSupported, sparseHipArraySupported, hostRegisterReadOnlySupported,
		timelineSemaphoreInteropSupported;
	int memoryPoolsSupported, gpuDirectRDMASupported;
	unsigned gpuDirectRDMAFlushWritesOptions;
	int gpuDirectRDMAWritesOrdering;
	unsigned memoryPoolSupportedHandleTypes;
	int deferredMappingHipArraySupported, ipcEventSupported, clusterLaunch, unifiedFunctionPointers;
	int reserved[63], hipReserved[32];
	char gcnArchName[256];
	size_t maxSharedMemoryPerMultiProcessor;
	int clockInstructionRate;
	unsigned arch;
	void *hdpMemFlushCntl, *hdpRegFlushCntl;
	int unmatched[4], isLargeBar, asicRevision;
};
_Static_assert(sizeof(struct prop_r0600) == 1472, "hipDeviceProp_tR0600 has 1472 bytes");
_Static_assert(offsetof(struct prop_r0600, gcnArchName) == 1160, "gcnArchName is at 1160 in hipDeviceProp_tR0600");

/* What both layouts have, under the same names. */
#define FILL_COMMON(p, d)                                                                                              \
	do {                                                                                                           \
		snprintf((p)->name, sizeof(p)->name, "%s", NAME);                                                      \
		snprintf((p)->gcnArchName, sizeof(p)->gcnArchName, "%s", ARCH);                                        \
		(p)->totalGlobalMem = emu_api_device_bytes();                                                          \
		(p)->sharedMemPerBlock = (p)->maxSharedMemoryPerMultiProcessor = LDS_BYTES;                            \
		(p)->regsPerBlock = REGISTERS;                                                                         \
		(p)->warpSize = 64;                                                                                    \
		(p)->maxThreadsPerBlock = BLOCK_MAX;                                                                   \
		for (int k_ = 0; k_ < 3; k_++) {                                                                       \
			(p)->maxThreadsDim[k_] = BLOCK_MAX;                                                            \
			(p)->maxGridSize[k_] = k_ == 0 ? GRID_X_MAX : GRID_YZ_MAX;                                     \
		}                                                                                                      \
		(p)->clockRate = CLOCK_KHZ;                                                                            \
		(p)->memoryClockRate = MEMORY_CLOCK_KHZ;                                                               \
		(p)->clockInstructionRate = TIMER_KHZ;                                                                 \
		(p)->memoryBusWidth = BUS_BITS;                                                                        \
		(p)->totalConstMem = (p)->memPitch = 2147483647;                                                       \
		(p)->major = 9;                                                                                        \
		(p)->minor = 4;                                                                                        \
		(p)->multiProcessorCount = COMPUTE_UNITS;                                                              \
		(p)->l2CacheSize = L2_BYTES;                                                                           \
		(p)->maxThreadsPerMultiProcessor = THREADS_PER_CU;                                                     \
		(p)->concurrentKernels = (p)->canMapHostMemory = (p)->isLargeBar = 1;                                  \
		(p)->ECCEnabled = (p)->managedMemory = 1;                                                              \
		(p)->pciBusID = bus_id(d);                                                                             \
		(p)->textureAlignment = (p)->texturePitchAlignment = 256;                                              \
	} while (0)

hipError_t
hipGetDeviceProperties(hipDeviceProp_t *p, int d)
{
	REQUIRE(p != NULL && exists(d));
	memset(p, 0, sizeof *p);
	FILL_COMMON(p, d);
	p->gcnArch = 942;
	return hipSuccess;
}

__attribute__((visibility("default"))) hipError_t hipGetDevicePropertiesR0600(struct prop_r0600 *p, int d);

hipError_t
hipGetDevicePropertiesR0600(struct prop_r0600 *p, int d)
{
	REQUIRE(p != NULL && exists(d));
	memset(p, 0, sizeof *p);
	FILL_COMMON(p, d);
	p->sharedMemPerMultiprocessor = p->sharedMemPerBlockOptin = LDS_BYTES;
	p->regsPerMultiprocessor = REGISTERS;
	p->unifiedAddressing = p->memoryPoolsSupported = p->hostRegisterSupported = p->asyncEngineCount = 1;
	return hipSuccess;
}

hipError_t
hipDeviceSynchronize(void)
{
	return emu_stream_drain_all();
}

hipError_t
hipDeviceReset(void)
{
	return emu_stream_drain_all();
}

hipError_t
hipSetDeviceFlags(unsigned flags)
{
	(void)flags;
	return hipSuccess;
}

hipError_t
hipGetDeviceFlags(unsigned *flags)
{
	REQUIRE(flags != NULL);
	*flags = 0;
	return hipSuccess;
}

hipError_t
hipDeviceGetStreamPriorityRange(int *least, int *greatest)
{
	if (least != NULL)
		*least = 1;
	if (greatest != NULL)
		*greatest = -1;
	return hipSuccess;
}

hipError_t
hipDeviceCanAccessPeer(int *can, int device, int peer)
{
	REQUIRE(can != NULL);
	*can = device != peer && exists(device) && exists(peer);
	return hipSuccess;
}

hipError_t
hipDeviceEnablePeerAccess(int peer, unsigned flags)
{
	(void)flags;
	return emu_api_error(exists(peer) ? hipSuccess : hipErrorInvalidDevice);
}

hipError_t
hipDeviceDisablePeerAccess(int peer)
{
	return emu_api_error(exists(peer) ? hipSuccess : hipErrorInvalidDevice);
}

/* There are no caches to configure and no limits to set. */
hipError_t
hipDeviceSetCacheConfig(hipFuncCache_t c)
{
	(void)c;
	return hipSuccess;
}

hipError_t
hipDeviceSetLimit(enum hipLimit_t limit, size_t value)
{
	(void)limit;
	(void)value;
	return hipSuccess;
}

hipError_t
hipDeviceGetLimit(size_t *value, enum hipLimit_t limit)
{
	(void)limit;
	REQUIRE(value != NULL);
	*value = (size_t)8 << 20;
	return hipSuccess;
}
