'use strict';
// The form, the queue, and the songs; player.js plays them.
const form = document.getElementById('ask');
const taken = JSON.parse(document.body.dataset.controls);  // By the model.
const at = id => document.getElementById(id);
const shown = element => !element.closest('[hidden]');
let given = null;  // The uploaded song: {prompt, name, seconds}.
let jobs = [];

// Returns an answer's JSON, or its HTML; throws what the server says is wrong.
async function send(url, options) {
  let answer;
  try {
    answer = await fetch(url, options);
  } catch {
    throw new Error('The app does not answer. Was it ended?');
  }
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return answer.headers.get('content-type').includes('json') ?
      JSON.parse(text) : text;
}

const task = () => form.elements.task.value;

// Shows what belongs to the task and the model.
function showFields() {
  for (const field of form.querySelectorAll('[data-of]'))
    field.hidden = !field.dataset.of.split(' ').includes(task()) ||
        (field.dataset.control && !taken.includes(field.dataset.control));
  at('seconds-label').textContent = {
    new: 'Length', continue: 'Length of what is added',
    rhythm: 'Use the first', voices: 'Use the first'}[task()];
  form.querySelector('.main').disabled = task() !== 'new' && !given;
  at('problem').textContent = '';
}

function showValues() {
  for (const slider of form.querySelectorAll('[type=range]')) {
    const box = slider.closest('.optional')?.querySelector('[type=checkbox]');
    const text = `${slider.value} ${slider.dataset.unit || ''}`.trim();
    const output = form.querySelector(`output[for=${slider.id}]`);
    slider.disabled = box && !box.checked;
    slider.setAttribute('aria-valuetext', text);
    output.textContent = slider.disabled ? 'the model chooses' : text;
    output.classList.toggle('any', slider.disabled);
  }
}

async function upload() {
  const file = at('file').files[0];
  const said = at('given');
  given = null;
  said.classList.remove('bad');
  if (file) {
    said.textContent = 'Reading…';
    try {
      given = await send('prompts?name=' + encodeURIComponent(file.name),
                          {method: 'POST', body: file});
      said.textContent = `${given.name}, ${clock(given.seconds)}`;
      at('prompt_seconds').max = Math.max(
          1, Math.min(60, Math.floor(given.seconds)));
      showValues();
    } catch (error) {
      said.textContent = error.message;
      said.classList.add('bad');
    }
  } else {
    said.textContent = '';
  }
  showFields();
}

// What the form asks for.
function asked() {
  const values = {task: task()};
  for (const slider of form.querySelectorAll('[type=range]'))
    if (shown(slider) && !slider.disabled)
      values[slider.id] = Number(slider.value);
  for (const [id, name] of [['voices', 'voices'],
                            ['given-voices', 'given_voices']])
    if (shown(at(id)))
      values[name] = Array.from(at(id).querySelectorAll(':checked'),
                                box => box.value);
  if (at('seed').value) values.seed = Number(at('seed').value);
  if (task() !== 'new') values.prompt = given.prompt;
  return values;
}

form.addEventListener('submit', async event => {
  event.preventDefault();
  at('problem').textContent = '';
  try {
    await send('songs', {method: 'POST', body: JSON.stringify(asked())});
    await refresh();
  } catch (error) {
    at('problem').textContent = error.message;
  }
});
form.addEventListener('input', showValues);
for (const radio of form.elements.task)
  radio.addEventListener('change', showFields);
at('file').addEventListener('change', upload);

// A job that has no song yet.
function showJob(job) {
  const id = 'q' + job.number;
  let item = at(id);
  if (!item) {
    item = at('waiting').content.firstElementChild.cloneNode(true);
    item.id = id;
    item.querySelector('.title').textContent = job.title;
    item.querySelector('progress').setAttribute(
        'aria-label', 'Progress of ' + job.title);
    item.querySelector('button').addEventListener(
        'click', () => remove(job.number, item.querySelector('.state')));
    at('queue').append(item);
  }
  const bar = item.querySelector('progress');
  const failed = job.state === 'failed';
  bar.hidden = job.state !== 'running';
  if (job.tokens) bar.value = job.progress; else bar.removeAttribute('value');
  item.classList.toggle('failed', failed);
  item.querySelector('button').textContent = failed ? 'Dismiss' : 'Cancel';
  const state = failed ? job.error :
      job.state === 'waiting' ? 'Waiting' :
      job.tokens ? `${job.tokens} tokens` :
      'Getting ready; the first song of a kind takes longer';
  const said = item.querySelector('.state');
  if (said.textContent !== state) said.textContent = state;
}

async function showSong(job) {
  const holder = document.createElement('template');
  holder.innerHTML = await send('songs/' + job.number);
  if (at('s' + job.number)) return;  // Another refresh was faster.
  const card = holder.content.firstElementChild;
  const choice = at('choice').content.firstElementChild.cloneNode(true);
  const said = choice.querySelector('span');
  const name = card.querySelector('h3').textContent;
  const keep = choice.querySelector('.keep');
  const discard = choice.querySelector('.discard');
  keep.setAttribute('aria-label', 'Keep ' + name);
  discard.setAttribute('aria-label', 'Discard ' + name);
  keep.addEventListener('click', async () => {
    keep.disabled = true;
    try {
      await send(`songs/${job.number}/keep`, {method: 'POST'});
      await refresh();
    } catch (error) {
      keep.disabled = false;
      said.textContent = error.message;
    }
  });
  discard.addEventListener('click', () => remove(job.number, said));
  card.querySelector('footer').after(choice);
  at('songs').prepend(card);
  addSong(card, true);
}

async function remove(number, said) {
  try {
    await send('songs/' + number, {method: 'DELETE'});
    await refresh();
  } catch (error) {
    said.textContent = error.message;
  }
}

async function refresh() {
  jobs = await send('songs');
  const states = new Map(jobs.map(job => [job.number, job]));
  const of = element => states.get(Number(element.id.slice(1)));
  for (const item of Array.from(at('queue').children))
    if (!of(item) || of(item).state === 'done') item.remove();
  for (const card of Array.from(at('songs').children))
    if (!of(card)) removeSong(card);
  for (const job of jobs) {
    if (job.state !== 'done') {
      showJob(job);
      continue;
    }
    if (!at('s' + job.number)) await showSong(job);
    const keep = at('s' + job.number)?.querySelector('.keep');
    if (keep && job.kept) {
      keep.disabled = true;
      keep.textContent = 'Kept';
    }
  }
  at('none').hidden = jobs.length > 0;
}

// Asks often while something is being written; other windows may ask too.
async function watch() {
  try {
    await refresh();
  } catch (error) {
    at('problem').textContent = error.message;
  }
  const busy = jobs.some(job => ['waiting', 'running'].includes(job.state));
  setTimeout(watch, busy ? 400 : 4000);
}

showFields();
showValues();
watch();
