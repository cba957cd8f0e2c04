// node subscribe.js BROKERS TOPIC GROUP: reads results, and commits them once they are dealt with.
import { Kafka, logLevel } from 'kafkajs'

const [brokers, topic, groupId] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'subscribe', brokers: brokers.split(','), logLevel: logLevel.WARN })
const consumer = kafka.consumer({ groupId, readUncommitted: false }) // true would show results that were taken back

await consumer.connect()
await consumer.subscribe({ topics: [topic], fromBeginning: true })
await consumer.run({
  // An offset is committed after this has returned; where it throws, the result comes again.
  eachMessage: async ({ message }) => {
    const named = Object.entries(message.headers).map(([name, value]) => [name, value.toString()])
    const headers = Object.fromEntries(named) // ce_id is the same when a result comes twice
    const result = JSON.parse(message.value.toString())
    console.log(JSON.stringify({ key: message.key?.toString() ?? '', headers, result }))
  }
})
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => consumer.disconnect())
