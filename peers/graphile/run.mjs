// What the harness asks of graphile-worker, one command a process: `fill`, `burn-down` or `latency`.
// The last line on stdout is the answer as JSON. The options are JSON in the second argument.
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const command = process.argv[2];
const options = JSON.parse(process.argv[3]);
const pgPool = new pg.Pool({ connectionString: options.url, max: options.connections });
pgPool.on("error", (error) => console.error(error));
pgPool.on("connect", (client) => client.on("error", (error) => console.error(error)));
// A line for each job would be measured, too; only what went wrong is of interest.
const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message);
});
const key = (job) => `video-${String(job).padStart(6, "0")}`;

const worker = {};
if (options.batch) {
  worker.localQueue = { size: options.batch };
  worker.completeJobBatchDelay = 0;
  worker.failJobBatchDelay = 0;
}
const start = (noop) =>
  run({
    pgPool,
    logger,
    noHandleSignals: true,
    crontab: "",
    taskList: { noop },
    concurrency: options.concurrency,
    pollInterval: options.poll_ms,
    preset: { worker },
  });

const commands = {
  async fill() {
    const utils = await makeWorkerUtils({ pgPool, logger });
    await utils.migrate();
    const chunk = 1000;
    for (let first = 0; first < options.jobs; first += chunk) {
      const jobs = Array.from({ length: Math.min(chunk, options.jobs - first) }, (_, job) => ({
        identifier: "noop",
        payload: { key: key(first + job) },
      }));
      await utils.addJobs(jobs);
    }
    await utils.release();
    return null;
  },

  // Seconds from the start of the workers to the last job being gone from the table.
  async "burn-down"() {
    await pgPool.query("select 1");
    let left = options.jobs;
    let all;
    const ran = new Promise((resolve) => (all = resolve));
    const began = performance.now();
    await start(() => {
      if (--left === 0) all();
    });
    await ran;
    for (;;) {
      const asked = performance.now();
      const { rowCount } = await pgPool.query("select 1 from graphile_worker._private_jobs limit 1");
      if (rowCount === 0) return (asked - began) / 1000;
      await sleep(1);
    }
  },

  // Milliseconds from before each enqueue to the start of its handler, one job at a time.
  async latency() {
    let started;
    const runner = await start(() => started(performance.now()));
    await sleep(1000);
    const latencies = [];
    for (let job = 0; job < options.jobs; job++) {
      await sleep(20 + Math.random() * 40);
      const starts = new Promise((resolve) => (started = resolve));
      const before = performance.now();
      await runner.addJob("noop", { key: key(job) });
      latencies.push((await starts) - before);
    }
    return latencies;
  },
};

console.log(JSON.stringify(await commands[command]()));
// The workers need not wind down: the database is removed next.
process.exit(0);
