import TaskQueue from '@goodware/task-queue';
import { item, main, numbers } from './client.mjs';

await main(async (count, size) => {
  const queue = new TaskQueue({ size });
  let failed;
  for (const n of numbers(count)) {
    const { promise } = await queue.push(() => item(n));
    promise.catch((error) => (failed ??= error));
    if (failed) break;
  }
  await queue.stop();
  if (failed) throw failed;
});
