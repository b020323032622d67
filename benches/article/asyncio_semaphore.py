"""A semaphore, as the documentation of asyncio has it; and a group, that one failure ends."""
import asyncio
import sys
import time

begun = 0


async def main(limit, count, port):
    global begun
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(limit)]

    async def item(n):
        global begun
        begun += 1
        reader, writer = idle.pop()
        writer.write(b"%d\n" % n)
        line = await reader.readline()
        idle.append((reader, writer))
        if line != b"ok\n":
            raise RuntimeError(f"item {n}: {line.decode().strip()}")

    semaphore = asyncio.Semaphore(limit)

    async def limited(n):
        async with semaphore:
            await item(n)

    start, told = time.perf_counter(), "done"
    try:
        async with asyncio.TaskGroup() as group:
            for n in range(count):
                group.create_task(limited(n))
    except ExceptionGroup as errors:
        told = str(errors.exceptions[0])
    seconds = time.perf_counter() - start
    with open("/proc/self/status") as status:
        peak = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
    print(seconds, begun, peak, told)


asyncio.run(main(*map(int, sys.argv[1:])))
