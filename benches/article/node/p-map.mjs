import pMap from 'p-map';
import { item, main, numbers } from './client.mjs';

await main((count, concurrency) => pMap(numbers(count), item, { concurrency }));
