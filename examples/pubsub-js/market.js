// A component that publishes prices and ends: node market.js TOPIC COUNT [FIRST]
const { events, sys } = require('kar-sdk')

const [topic, count = '10', first = '1'] = process.argv.slice(2)

async function main () {
  const last = Number(first) + Number(count) - 1
  for (let number = Number(first); number <= last; number++) {
    await events.publish(topic, { number, share: number % 2 ? 'ACME' : 'BOLT', price: number })
  }
  console.log(`published ${count} prices to ${topic}`)
  await sys.shutdown()
}

main().catch(err => {
  console.error(err)
  process.exit(1)
})
