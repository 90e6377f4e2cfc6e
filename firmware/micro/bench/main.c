#include "boards/cortex_m/board.h"
static void print(const char*s){while(*s)nst_board_put((uint8_t)*s++);}
static void number(uint32_t n){char b[12];int i=0;do{b[i++]=(char)('0'+n%10);n/=10;}while(n);while(i)nst_board_put((uint8_t)b[--i]);}
int main(void){
    print(nst_board_name);
    uint64_t a=nst_board_instructions(), b=nst_board_instructions();
    print(" ");number((uint32_t)(b-a));print("\n");
    uint64_t c=nst_board_instructions();
    __asm__ volatile(".rept 1000\n nop\n .endr");
    uint64_t d=nst_board_instructions();
    number((uint32_t)(d-c));print("\n");
    return 0;}
