// node dead-letters.js BROKERS TOPIC GROUP: says why each record had no result, and where it lay.
import { Kafka, logLevel } from 'kafkajs'

const [brokers, topic, groupId] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'dead-letters', brokers: brokers.split(','), logLevel: logLevel.WARN })
const consumer = kafka.consumer({ groupId, readUncommitted: false })

await consumer.connect()
await consumer.subscribe({ topics: [topic], fromBeginning: true })
await consumer.run({
  eachMessage: async ({ message }) => {
    // Headers of these names are ours; the value and all other headers are the record's own.
    const ours = Object.entries(message.headers).filter(([name]) => /^(streamer\.error|__connect\.errors)\./.test(name))
    const why = Object.fromEntries(ours.map(([name, value]) => [name, value.toString()]))
    console.log(JSON.stringify({ why, bytes: message.value?.length ?? 0 }))
  }
})
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => consumer.disconnect())
