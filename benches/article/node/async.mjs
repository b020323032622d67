import async from 'async';
import { item, main, numbers } from './client.mjs';

await main((count, limit) => async.eachLimit(numbers(count), limit, item));
